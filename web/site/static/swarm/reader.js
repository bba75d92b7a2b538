// Tesseract in a worker of the browser: reads one image at a time, into hOCR.

const VENDOR = "/static/swarm/vendor";

// Seconds that a page may take; phones are slow.
const MOST_SECONDS = 900;

// Tesseract's own default for programs is one block of text; pages have several.
const WHOLE_PAGE = "3";

// What Tesseract here reads as it is; other images become PNG first.
const READ_AS_IS = new Set(["image/png", "image/jpeg", "image/webp"]);

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

// What can be decoded here: Tesseract does three of them, the browser the others.
export const IMAGES = [...READ_AS_IS, "image/gif", "image/bmp"];

// Tesseract or a language of it did not come; nothing is wrong with the page.
export class NotLoaded extends Error {}

export class Reader {
  #worker = null;
  #languages = "";
  #onProgress = () => {};
  #fail = () => {}; // ends the present call, whatever it waits for
  #ended = false;
  #loading = false;

  // The page as an hOCR document, and the number of its words. `onProgress` gets 0 to 1, and null
  // while Tesseract and its languages are loaded. After an error it starts anew with the next page.
  async read(image, languages, dpi, onProgress) {
    this.#onProgress = onProgress;
    let alarm;
    const failed = new Promise((_, reject) => {
      this.#fail = reject;
      alarm = setTimeout(() => reject(new Error(`not read within ${MOST_SECONDS} seconds`)), MOST_SECONDS * 1000);
    });
    failed.catch(() => null);
    try {
      return await Promise.race([this.#read(image, languages, dpi), failed]);
    } catch (error) {
      this.#stop();
      if (error?.name === "AbortError") throw error;
      const message = String(error?.message ?? error ?? "the worker did not start");
      throw this.#loading ? new NotLoaded(message) : new Error(message);
    } finally {
      clearTimeout(alarm);
    }
  }

  // Ends it at once, and a page that is being read as well.
  end() {
    this.#ended = true;
    this.#fail(new DOMException("the device has left", "AbortError"));
    this.#stop();
  }

  async #read(image, languages, dpi) {
    this.#loading = true;
    await this.#load(languages.join("+"));
    this.#loading = false;
    await this.#worker.setParameters({
      tessedit_pageseg_mode: WHOLE_PAGE,
      user_defined_dpi: String(Math.round(dpi)),
      debug_file: "/dev/null", // what it remarks on would stand in the console as errors
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
        workerBlobURL: false, // so that no script comes from anywhere but this server
        cacheMethod: "none", // the browser's cache notices when the server has other data
        logger: ({ status, progress }) => status === "recognizing text" && this.#onProgress(progress),
        errorHandler: (error) => this.#fail(new Error(String(error))), // else its promise never ends
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
  const plain = READ_AS_IS.has(image.type) ? image : await asPng(image);
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

// tesseract.js turns an image as its EXIF data says, which it looks for in the first 500 bytes. The
// server means the pixels as they are stored, so the entry is made to say "upright".
function forgetOrientation(bytes) {
  const entry = [1, 18, 0, 3, 0, 0, 0, 1, 0];
  for (let at = 0; at < Math.min(bytes.length, 500) - entry.length; at += 1) {
    if (entry.every((byte, index) => bytes[at + index] === byte)) bytes[at + entry.length] = 1;
  }
}
