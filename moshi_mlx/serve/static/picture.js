// The picture to talk about: chosen, dropped or pasted, and made small before it is sent.

const LONGEST = 896; // pixels: twice what the model looks at
const QUALITY = 0.92;

export class Picture {
  /**
   * @param {object} parts elements: area, canvas, file (input), choose, remove, words.
   * @param {() => void} onChange called when there is another picture, or none.
   */
  constructor(parts, onChange) {
    this.bytes = null; // a JPEG file
    this.parts = parts;
    this.onChange = onChange;
    const { area, file, choose, remove } = parts;
    choose.onclick = () => file.click();
    remove.onclick = () => this.forget();
    file.onchange = () => {
      if (file.files[0]) this.take(file.files[0]);
      file.value = ""; // so that the same file may be chosen again
    };
    document.addEventListener("dragover", (event) => {
      event.preventDefault();
      area.dataset.over = "yes";
    });
    document.addEventListener("dragleave", (event) => {
      if (!event.relatedTarget) delete area.dataset.over;
    });
    document.addEventListener("drop", (event) => {
      event.preventDefault();
      delete area.dataset.over;
      this.takeFirst(event.dataTransfer.files);
    });
    document.addEventListener("paste", (event) => this.takeFirst(event.clipboardData.files));
    area.hidden = false;
  }

  takeFirst(files) {
    if (files.length) this.take(files[0]);
  }

  /** Show a file here, and keep it as a small JPEG. */
  async take(file) {
    const { canvas, words, remove } = this.parts;
    let bitmap;
    try {
      bitmap = await createImageBitmap(file);
    } catch {
      words.textContent = `${file.name || "This"} is no picture that this browser can show.`;
      return;
    }
    const scale = Math.min(1, LONGEST / Math.max(bitmap.width, bitmap.height));
    canvas.width = Math.max(1, Math.round(bitmap.width * scale));
    canvas.height = Math.max(1, Math.round(bitmap.height * scale));
    const pen = canvas.getContext("2d");
    pen.fillStyle = "white"; // behind what is transparent
    pen.fillRect(0, 0, canvas.width, canvas.height);
    pen.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
    bitmap.close();
    const blob = await new Promise((done) => canvas.toBlob(done, "image/jpeg", QUALITY));
    this.bytes = new Uint8Array(await blob.arrayBuffer());
    canvas.setAttribute("aria-label", `Your picture: ${file.name || "pasted"}`);
    canvas.hidden = remove.hidden = false;
    words.textContent = "Moshi can see this picture.";
    this.onChange();
  }

  forget() {
    const { canvas, words, remove } = this.parts;
    this.bytes = null;
    canvas.hidden = remove.hidden = true;
    words.textContent = "Moshi forgets the picture when you restart.";
    this.onChange();
  }

  /** What the server said of the picture. */
  answer({ error }) {
    if (error) this.parts.words.textContent = error;
  }
}
