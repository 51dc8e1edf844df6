// @stable-canvas/comfyui-client: it resolves from the websocket's events alone.
import { createRequire } from 'node:module'
import { readFileSync } from 'node:fs'
const require = createRequire(new URL('../', import.meta.url))
const { Client } = require('@stable-canvas/comfyui-client')
const [address, file] = process.argv.slice(2)
const steps = []
const client = new Client({ api_host: address, clientId: 'stable-canvas', WebSocket: require('ws'), fetch })
client.connect()
const result = await client.enqueue(JSON.parse(readFileSync(file)), { progress: ({ value, max }) => steps.push([value, max]) })
client.close()
console.log(JSON.stringify({ images: result.images.map(({ data }) => data), steps }))
process.exit(0)
