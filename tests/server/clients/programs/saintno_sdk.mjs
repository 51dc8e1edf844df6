// @saintno/comfyui-sdk: the widest use of routes in one client.
import { createRequire } from 'node:module'
import { readFileSync } from 'node:fs'
const require = createRequire(new URL('../', import.meta.url))
const { ComfyApi, CallWrapper, PromptBuilder } = require('@saintno/comfyui-sdk')
const [address, file] = process.argv.slice(2)
const api = await new ComfyApi(`http://${address}`, 'saintno').init().waitForReady()
const builder = new PromptBuilder(JSON.parse(readFileSync(file)), ['seed'], ['images'])
  .setInputNode('seed', '3.inputs.seed').setOutputNode('images', '9').input('seed', 7)
const steps = []
const images = await new Promise((done, failed) => {
  new CallWrapper(api, builder).onProgress(({ value, max }) => steps.push([value, max]))
    .onFailed(failed).onFinished(data => done(data.images.images)).run()
})
const picture = await api.getImage(images[0])
const answers = {
  images, steps, bytes: picture.size, checkpoints: await api.getCheckpoints(), samplers: (await api.getSamplerInfo()).sampler[0].length,
  stats: Object.keys(await api.getSystemStats()), queue: await api.getQueue(), history: Object.keys(await api.getHistories()).length,
  uploaded: (await api.uploadImage(Buffer.from(await picture.arrayBuffer()), 'from_sdk.png')).info, freed: await api.freeMemory(true, true),
}
console.log(JSON.stringify(answers))
process.exit(0)
