// Tesseract in a web worker: converts one image at a time to hOCR.

const VENDOR = "/static/swarm/vendor";

// Time limit per page in seconds; phones are slow.
const MAX_SECONDS = 900;

// The default of Tesseract's API is a single block of text; pages contain several.
const WHOLE_PAGE = "3";

// Formats that Tesseract decodes itself; other images are converted to PNG.
const DECODED_BY_TESSERACT = new Set(["image/png", "image/jpeg", "image/webp"]);

const HEAD = `<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.0 Transitional//EN" "http://www.w3.org/TR/xhtml1/DTD/xhtml1-transitional.dtd">
<html xmlns="http://www.w3.org/1999/xhtml" xml:lang="en" lang="en">
<head>
<title></title>
<meta http-equiv="Content-Type" content="text/html;charset=utf-8"/>
<meta name="ocr-system" content="tesseract.js"/>
<meta name="ocr-capabilities" content="ocr_page ocr_carea ocr_par ocr_line ocrx_word ocrp_wconf"/>
</head>
<body>
`;
const FOOT = "</body>\n</html>\n";

// Supported formats: three are decoded by Tesseract, the others by the browser.
export const IMAGES = [...DECODED_BY_TESSERACT, "image/gif", "image/bmp"];

// Tesseract or its language data could not be loaded. The page is not the cause.
export class NotLoaded extends Error {}

export class Recognizer {
  #worker = null;
  #languages = "";
  #onProgress = () => {};
  #fail = () => {}; // rejects the current call
  #ended = false;
  #loading = false;

  // Returns the page as an hOCR document, and the number of its words. `onProgress` gets 0 to 1, and
  // null while Tesseract and its languages are loading. After an error, the worker is restarted.
  async recognize(image, languages, dpi, onProgress) {
    this.#onProgress = onProgress;
    let alarm;
    const failed = new Promise((_, reject) => {
      this.#fail = reject;
      alarm = setTimeout(() => reject(new Error(`timed out after ${MAX_SECONDS} seconds`)), MAX_SECONDS * 1000);
    });
    failed.catch(() => null);
    try {
      return await Promise.race([this.#recognize(image, languages, dpi), failed]);
    } catch (error) {
      this.#stop();
      if (error?.name === "AbortError") throw error;
      const message = String(error?.message ?? error ?? "the worker did not start");
      throw this.#loading ? new NotLoaded(message) : new Error(message);
    } finally {
      clearTimeout(alarm);
    }
  }

  // Stops at once, also while a page is being processed.
  end() {
    this.#ended = true;
    this.#fail(new DOMException("the device has left", "AbortError"));
    this.#stop();
  }

  async #recognize(image, languages, dpi) {
    this.#loading = true;
    await this.#load(languages.join("+"));
    this.#loading = false;
    await this.#worker.setParameters({
      tessedit_pageseg_mode: WHOLE_PAGE,
      user_defined_dpi: String(Math.round(dpi)),
      debug_file: "/dev/null", // otherwise diagnostics appear as errors in the console
    });
    const bytes = await bytesOf(image);
    const { data } = await this.#worker.recognize(bytes, {}, { hocr: true, text: false });
    return { hocr: HEAD + data.hocr + FOOT, words: data.hocr.split("ocrx_word").length - 1 };
  }

  async #load(languages) {
    if (this.#worker && this.#languages === languages) return;
    this.#onProgress(null);
    if (this.#worker) {
      await this.#worker.reinitialize(languages);
    } else {
      const { default: Tesseract } = await import("./vendor/tesseract.esm.min.js");
      const worker = await Tesseract.createWorker(languages, Tesseract.OEM.LSTM_ONLY, {
        workerPath: `${VENDOR}/worker.min.js`,
        corePath: VENDOR,
        langPath: VENDOR,
        workerBlobURL: false, // the Content Security Policy only allows scripts from this server
        cacheMethod: "none", // the HTTP cache notices when the server has other data
        logger: ({ status, progress }) => status === "recognizing text" && this.#onProgress(progress),
        errorHandler: (error) => this.#fail(new Error(String(error))), // otherwise the promise never settles
      });
      if (this.#ended) worker.terminate();
      this.#worker = worker;
    }
    this.#languages = languages;
  }

  #stop() {
    this.#worker?.terminate();
    this.#worker = null;
  }
}

async function bytesOf(image) {
  const plain = DECODED_BY_TESSERACT.has(image.type) ? image : await asPng(image);
  const bytes = new Uint8Array(await plain.arrayBuffer());
  forgetOrientation(bytes);
  return bytes;
}

async function asPng(image) {
  const picture = await createImageBitmap(image);
  const canvas = document.createElement("canvas");
  canvas.width = picture.width;
  canvas.height = picture.height;
  const context = canvas.getContext("2d");
  context.fillStyle = "#fff";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(picture, 0, 0);
  picture.close();
  return new Promise((resolve, reject) => {
    canvas.toBlob((blob) => (blob ? resolve(blob) : reject(new Error("the image cannot be decoded"))), "image/png");
  });
}

// tesseract.js rotates images by their EXIF orientation, which it searches in the first 500 bytes. The
// server expects stored pixels, so the orientation is set to "upright".
function forgetOrientation(bytes) {
  const entry = [1, 18, 0, 3, 0, 0, 0, 1, 0];
  for (let at = 0; at < Math.min(bytes.length, 500) - entry.length; at += 1) {
    if (entry.every((byte, index) => bytes[at + index] === byte)) bytes[at + entry.length] = 1;
  }
}
