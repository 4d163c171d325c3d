// A photo from the camera of this device.

import { $ } from "./nodes.js";

export const usable = () => window.isSecureContext && Boolean(navigator.mediaDevices?.getUserMedia);

/** Show the camera and wait: the photo as a file, or null when the person thinks better of it. Throws. */
export async function photograph() {
  const camera = { video: { facingMode: "environment", width: { ideal: 1280 } } };
  const source = await navigator.mediaDevices.getUserMedia(camera);
  const [dialog, finder] = [$("shutter"), $("finder")];
  finder.srcObject = source;
  dialog.showModal();
  const taken = await new Promise((resolve) => {
    const done = (yes) => resolve(yes);
    $("snap").onclick = () => done(true);
    $("unsnap").onclick = () => done(false);
    dialog.oncancel = () => done(false);
  });
  const photo = taken ? await still(finder) : null;
  source.getTracks().forEach((track) => track.stop());
  finder.srcObject = null;
  dialog.close();
  return photo;
}

async function still(finder) {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [finder.videoWidth, finder.videoHeight];
  canvas.getContext("2d").drawImage(finder, 0, 0);
  const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", 0.92));
  return blob && new File([blob], "photo.jpg", { type: "image/jpeg" });
}
