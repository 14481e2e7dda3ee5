// Reads arrays over HTTP with zarrita.js and prints, as JSON, what it found.
//     node read.js URL [URL ...]
import { FetchStore, get, open, slice } from "zarrita";

const found = [];
for (const url of process.argv.slice(2)) {
  const array = await open(new FetchStore(url), { kind: "array" });
  const all = await get(array);
  const part = await get(array, [slice(1, 3), null]);
  found.push({
    attributes: array.attrs,
    shape: all.shape,
    values: Array.from(all.data, Number),
    part: Array.from(part.data, Number),
  });
}
console.log(JSON.stringify(found));
