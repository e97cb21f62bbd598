// A picture of any size and any turn as one that the service takes: upright, and small enough for a phone's network.
const LONGEST_SIDE = 2000;
const MOST_BYTES = 1_500_000;
const THUMBNAIL = [800, 400]; // as large as the page shows it on a sharp screen

/** A picture to ask about, with a small one to show. */
export async function prepare(file) {
  const bitmap = await createImageBitmap(file, { imageOrientation: "from-image" });
  const large = drawn(bitmap, LONGEST_SIDE, LONGEST_SIDE);
  const small = drawn(bitmap, ...THUMBNAIL);
  bitmap.close();
  const thumbnail = await base64(await jpeg(small, 0.7));
  return { name: file.name, thumbnail, base64: await base64(await smallEnough(large)) };
}

function drawn(bitmap, width, height) {
  const scale = Math.min(1, width / bitmap.width, height / bitmap.height);
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(bitmap.width * scale));
  canvas.height = Math.max(1, Math.round(bitmap.height * scale));
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.fillStyle = "#fff"; // JPEG has no transparency
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  return canvas;
}

function jpeg(canvas, quality) {
  return new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", quality));
}

async function smallEnough(canvas) {
  for (const quality of [0.9, 0.75, 0.5]) {
    const blob = await jpeg(canvas, quality);
    if (blob.size <= MOST_BYTES || quality === 0.5) return blob;
  }
}

/** An address in this page of a JPEG in base64. */
export function urlOf(picture) {
  const bytes = Uint8Array.from(atob(picture), (character) => character.charCodeAt(0));
  return URL.createObjectURL(new Blob([bytes], { type: "image/jpeg" }));
}

function base64(blob) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result.slice(reader.result.indexOf(",") + 1));
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(blob);
  });
}

/** The first picture among what was pasted or dropped, or else the first file, so that it is told that it is none. */
export function pictureIn(transfer) {
  const files = [...(transfer?.files ?? [])];
  return files.find((file) => file.type.startsWith("image/")) ?? files[0];
}
