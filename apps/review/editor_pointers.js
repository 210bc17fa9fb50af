// Which of several pointers draws: a pen before a finger, and of fingers only one that is alone.

export class Pointers {
  constructor() {
    /** @type {number | null} */
    this.drawing = null;
    this.isFinger = false; // whether a finger is drawing
    this.fingers = new Set(); // on the crop
  }

  /**
   * A pointer goes down. Two fingers zoom or move the page, and a hand lies beside the pen: neither draws.
   *
   * @param {{pointerId: number, pointerType: string}} event
   * @returns {{draws: boolean, givesUp: boolean}} whether it draws, and whether the stroke begun by a finger is given up
   */
  down({ pointerId, pointerType }) {
    const isFinger = pointerType === "touch";
    if (isFinger) this.fingers.add(pointerId);
    if (this.drawing !== null && !this.isFinger) return { draws: false, givesUp: false };
    const givesUp = this.drawing !== null;
    const draws = !isFinger || this.fingers.size === 1;
    this.drawing = draws ? pointerId : null;
    this.isFinger = draws && isFinger;
    return { draws, givesUp };
  }

  /** @type {(event: {pointerId: number}) => boolean} */
  leads({ pointerId }) {
    return this.drawing === pointerId || (this.drawing === null && !this.fingers.size);
  }

  // Whether the pointer that goes up was drawing.
  /** @type {(event: {pointerId: number}) => boolean} */
  up({ pointerId }) {
    this.fingers.delete(pointerId);
    if (this.drawing !== pointerId) return false;
    this.drawing = null;
    return true;
  }
}
