// A browser as a user has it: Debian's Chromium, headless, with a profile of its own.
import { createRequire } from 'node:module'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
const require = createRequire(new URL('../', import.meta.url))
const { chromium } = require('playwright-core')

const ARGUMENTS = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
  '--disable-component-update', '--disable-sync']
export const LONG = 90000

/** Runs `scenario(page, shot)` and prints what it gives, with the errors of the page, as one line of JSON. */
export async function browse ({ width = 1400, height = 900, touch = false } = {}, scenario) {
  const [executablePath, artefacts] = process.argv.slice(2)
  const profile = mkdtempSync(join(tmpdir(), 'graphflow-browser-'))
  const browser = await chromium.launchPersistentContext(profile, {
    executablePath, headless: true, viewport: { width, height }, hasTouch: touch, isMobile: touch, args: ARGUMENTS
  })
  try {
    const page = await browser.newPage()
    page.setDefaultTimeout(LONG)
    const errors = []
    page.on('pageerror', error => errors.push(String(error)))
    const shot = name => page.screenshot({ path: join(artefacts, `${name}.png`) })
    console.log(JSON.stringify({ ...await scenario(page, shot), errors }))
  } finally {
    await browser.close()
    rmSync(profile, { recursive: true, force: true })
  }
}

/** Opens the editor and waits for a graph of ours; what the server tells from then on is kept in `window.told`. */
export async function openEditor (page, address, path = '/?template=text_to_image') {
  await page.goto(String(new URL(path, address)))
  await page.waitForFunction(() => window.app?.graph?._nodes?.some(node => node.type === 'CheckpointLoaderSimple'))
  await listen(page)
  await page.waitForTimeout(500)
}

export async function listen (page) {
  await page.evaluate(() => {
    window.told = []
    for (const kind of ['progress', 'progress_state', 'executing', 'executed', 'execution_error', 'execution_success',
      'execution_interrupted', 'b_preview', 'b_preview_with_metadata']) {
      window.app.api.addEventListener(kind, ({ detail }) => window.told.push([kind, detail instanceof Blob ? {} : detail]))
    }
  })
}

/** Sets widgets by the type of their node. */
export async function setWidgets (page, values) {
  await page.evaluate(values => {
    for (const [kind, widgets] of Object.entries(values)) {
      for (const node of window.app.graph._nodes.filter(node => node.type === kind)) {
        for (const [name, value] of Object.entries(widgets)) node.widgets.find(each => each.name === name).value = value
      }
    }
  }, values)
}

export const run = page => page.getByTestId('queue-button').click()
export const told = (page, kind) => page.waitForFunction(kind => window.told.some(each => each[0] === kind), kind)
export const all = (page, kind) => page.evaluate(kind => window.told.filter(each => each[0] === kind).map(each => each[1]), kind)
