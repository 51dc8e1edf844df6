// comfy-ui-client: the classic websocket example as a class.
import { createRequire } from 'node:module'
import { readFileSync } from 'node:fs'
const require = createRequire(new URL('../', import.meta.url))
const { ComfyUIClient } = require('comfy-ui-client')
const [address, file] = process.argv.slice(2)
const client = new ComfyUIClient(address, 'comfy-ui-client')
await client.connect()
const images = await client.getImages(JSON.parse(readFileSync(file)))
await client.disconnect()
const bytes = await Promise.all(images['9'].map(async ({ blob }) => blob.size))
console.log(JSON.stringify({ images: images['9'].map(({ image }) => image), bytes }))
process.exit(0)
