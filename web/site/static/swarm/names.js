// Random device names that are easy to remember and to pronounce.

const HOW = ["brisk", "calm", "clever", "eager", "gentle", "keen", "lively", "merry", "patient", "quiet", "swift", "wise"];
const WHO = ["badger", "crane", "finch", "hare", "heron", "lynx", "marten", "otter", "owl", "robin", "stork", "wren"];

const one = (list) => list[Math.floor(Math.random() * list.length)];

// For example "merry-otter-42".
export const randomName = () => `${one(HOW)}-${one(WHO)}-${10 + Math.floor(Math.random() * 90)}`;
