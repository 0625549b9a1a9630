// Every page: how busy the machine is, beside the navigation.
import { ask, byId, bytes, every } from "./common.js";

every(5, async () => {
  const { busy_share: busy, used_bytes: used, total_bytes: total, gpu_share: gpu } = await ask("system/brief");
  const percent = (name, part) => (part == null ? null : `${name} ${Math.round(100 * part)}%`);
  const words = [percent("CPU", busy), percent("GPU", gpu), used == null ? null : `${bytes(used)} of ${bytes(total)}`].filter((text) => text);
  byId("machine").textContent = words.join(" · ");
  byId("machine").hidden = !words.length;
});
