// Records what the editor sends for files of its own: the truth that tests/graphflow/formats compares with.
// node record_prompts.mjs CHROMIUM SERVER OBJECT_INFO.json FOLDER_OF_FILES FOLDER_FOR_PROMPTS
// SERVER is `graphflow serve` with the editor (PYTHONPATH=tests/server/clients/editor); node types come from OBJECT_INFO.json.
import { createRequire } from 'node:module'
import { mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
const require = createRequire(new URL('../', import.meta.url))
const { chromium } = require('playwright-core')

const [executablePath, address, objectInfo, files, prompts] = process.argv.slice(2)
const profile = mkdtempSync(join(tmpdir(), 'graphflow-browser-'))
const browser = await chromium.launchPersistentContext(profile, { executablePath, headless: true, args: ['--no-sandbox', '--disable-gpu'] })
const page = await browser.newPage()
// The descriptions that the tests keep are without what conversion does not need; the editor takes a node only with it.
const described = Object.fromEntries(Object.entries(JSON.parse(readFileSync(objectInfo, 'utf8'))).map(([name, each]) =>
  [name, { name, description: '', category: 'x', output_is_list: each.output.map(() => false), ...each }]))
await page.route('**/api/object_info', route => route.fulfill({ contentType: 'application/json', body: JSON.stringify(described) }))
await page.goto(String(new URL('/?', address)))
await page.waitForFunction(() => window.app?.graph?._nodes?.length > 0, null, { timeout: 90000 })
await page.waitForTimeout(2000)
for (const name of readdirSync(files).filter(each => each.endsWith('.json'))) {
  try {
    const prompt = await page.evaluate(async file => {
      await window.app.loadGraphData(file)
      return (await window.app.graphToPrompt()).output
    }, JSON.parse(readFileSync(join(files, name), 'utf8')))
    writeFileSync(join(prompts, name), JSON.stringify(prompt))
  } catch (error) {
    console.log(name, String(error).split('\n')[0])
  }
}
await browser.close()
rmSync(profile, { recursive: true, force: true })
