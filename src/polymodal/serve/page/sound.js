// Sounds: recorded, or read from a file that the server may not know, and written as WAV.

const READ = /\.(wav|flac|ogg|oga)$/i; // what the server reads as it is

/** Samples of several channels -> one channel of 16 bits, as a WAV file. */
export function wav(channels, rate, name) {
  const length = channels[0].length;
  const view = new DataView(new ArrayBuffer(44 + 2 * length));
  const text = (at, letters) => [...letters].forEach((c, i) => view.setUint8(at + i, c.charCodeAt(0)));
  text(0, "RIFF");
  view.setUint32(4, 36 + 2 * length, true);
  text(8, "WAVEfmt ");
  view.setUint32(16, 16, true);
  view.setUint16(20, 1, true); // whole numbers
  view.setUint16(22, 1, true); // one channel
  view.setUint32(24, rate, true);
  view.setUint32(28, 2 * rate, true);
  view.setUint16(32, 2, true);
  view.setUint16(34, 16, true);
  text(36, "data");
  view.setUint32(40, 2 * length, true);
  for (let i = 0; i < length; i++) {
    let sample = 0;
    for (const channel of channels) sample += channel[i] / channels.length;
    view.setInt16(44 + 2 * i, Math.round(32767 * Math.max(-1, Math.min(1, sample))), true);
  }
  return new File([view], name, { type: "audio/wav" });
}

/** What the server can read of a sound: the file itself, or, decoded by the browser, a WAV. Throws. */
export async function readable(file) {
  if (READ.test(file.name)) return file;
  const context = new AudioContext();
  try {
    const heard = await context.decodeAudioData(await file.arrayBuffer());
    const channels = Array.from({ length: heard.numberOfChannels }, (_, k) => heard.getChannelData(k));
    return wav(channels, heard.sampleRate, file.name.replace(/\.\w+$/, "") + ".wav");
  } finally {
    await context.close();
  }
}

/** Begin to record; `stop()` of what comes gives the WAV, `level()` how loud it is just now, 0 to 1. Throws. */
export async function record() {
  const source = await navigator.mediaDevices.getUserMedia({ audio: true });
  const recorder = new MediaRecorder(source);
  const pieces = [];
  recorder.addEventListener("dataavailable", (event) => pieces.push(event.data));
  const context = new AudioContext();
  const meter = context.createAnalyser();
  context.createMediaStreamSource(source).connect(meter);
  const now = new Float32Array(meter.fftSize);
  recorder.start();
  const end = async () => {
    source.getTracks().forEach((track) => track.stop());
    await context.close();
  };
  return {
    level() {
      meter.getFloatTimeDomainData(now);
      return Math.min(1, 3 * Math.sqrt(now.reduce((sum, x) => sum + x * x, 0) / now.length));
    },
    async stop() {
      const stopped = new Promise((resolve) => recorder.addEventListener("stop", resolve, { once: true }));
      recorder.stop();
      await stopped;
      await end();
      return readable(new File(pieces, "recording.webm", { type: recorder.mimeType }));
    },
    async drop() {
      recorder.stop();
      await end();
    },
  };
}
