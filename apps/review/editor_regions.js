// Smart select: a superpixel and its neighbours, the most similar first.

export class Regions {
  /**
   * @param {Uint16Array} parts superpixel of each pixel, numbered from 0 without gaps
   * @param {number[]} colours lightness, a and b of each superpixel, one after the other
   * @param {number} width of the crop
   */
  constructor(parts, colours, width) {
    this.parts = parts;
    this.colours = colours;
    this.width = width;
    this.pixels = Array.from({ length: colours.length / 3 }, () => /** @type {number[]} */ ([]));
    this.beside = this.pixels.map(() => new Set());
    parts.forEach((part, i) => {
      this.pixels[part].push(i);
      if ((i + 1) % width) this.touch(part, parts[i + 1]);
      if (i + width < parts.length) this.touch(part, parts[i + width]);
    });
    /** @type {{start: number, count: number, pixels: number[]} | null} */
    this.last = null;
  }

  /** @type {(one: number, other: number) => void} */
  touch(one, other) {
    if (one === other) return;
    this.beside[one].add(other);
    this.beside[other].add(one);
  }

  // The pixels of a number of superpixels, the one under a point first; null outside the crop.
  /** @type {(point: {x: number, y: number}, count: number) => number[] | null} */
  at(point, count) {
    const [x, y] = [Math.floor(point.x), Math.floor(point.y)];
    if (x < 0 || y < 0 || x >= this.width || (y + 1) * this.width > this.parts.length) return null;
    const start = this.parts[y * this.width + x];
    if (this.last?.start !== start || this.last?.count !== count)
      this.last = { start, count, pixels: this.grown(start, count).flatMap((part) => this.pixels[part]) };
    return this.last.pixels;
  }

  // Repeatedly adds the neighbour whose colour is nearest to the mean of the selection.
  /** @type {(start: number, count: number) => number[]} */
  grown(start, count) {
    const taken = [start];
    const border = new Set(this.beside[start]);
    const sum = [0, 0, 0];
    let size = 0;
    /** @type {(part: number) => void} */
    const add = (part) => {
      const more = this.pixels[part].length;
      size += more;
      for (let k = 0; k < 3; k++) sum[k] += more * this.colours[3 * part + k];
    };
    add(start);
    while (taken.length < count && border.size) {
      /** @type {(part: number) => number} */
      const far = (part) => Math.hypot(...sum.map((total, k) => this.colours[3 * part + k] - total / size));
      const [next] = [...border].reduce((best, part) => {
        const distance = far(part);
        return distance < best[1] ? [part, distance] : best;
      }, [-1, Infinity]);
      border.delete(next);
      taken.push(next);
      add(next);
      for (const part of this.beside[next]) if (!taken.includes(part)) border.add(part);
    }
    return taken;
  }
}

/**
 * Reads the superpixels of a crop, whose numbers are the red and green of a picture.
 *
 * @param {{uri: string, colours: number[]}} said
 * @param {(regions: Regions) => void} done
 */
export function readRegions(said, done) {
  const picture = new Image();
  picture.onload = () => {
    const canvas = document.createElement("canvas");
    Object.assign(canvas, { width: picture.width, height: picture.height });
    const pen = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
    pen.drawImage(picture, 0, 0);
    const bytes = pen.getImageData(0, 0, picture.width, picture.height).data;
    const parts = Uint16Array.from({ length: bytes.length / 4 }, (_, i) => bytes[4 * i] + 256 * bytes[4 * i + 1]);
    done(new Regions(parts, said.colours, picture.width));
  };
  picture.src = said.uri;
}
