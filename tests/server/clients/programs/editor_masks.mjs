// A result is taken from the node that saved it to the one that loads, and a mask is painted on a picture, twice.
import { browse, openEditor } from './browser.mjs'
const [address, picture] = process.argv.slice(4)

/** The server's word on the graph as it stands, and what LoadImage has in it. */
const judged = page => page.evaluate(async () => {
  const { output: prompt } = await window.app.graphToPrompt()
  const answer = await fetch('/api/prompt?wait=30', { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify({ prompt }) })
  const { state } = await answer.json()
  return { name: window.loads.widgets.find(each => each.name === 'image').value, status: answer.status, state }
})

/** The file that LoadImage names. */
const loaded = page => page.evaluate(() => window.loads.widgets.find(each => each.name === 'image').value)

await browse({}, async (page, shot) => {
  const asked = []
  page.on('response', answer => { if (/view\?|upload/.test(answer.url())) asked.push([answer.status(), answer.url()]) })
  await openEditor(page, address)
  await page.evaluate(async picture => {
    const { app, LiteGraph } = window
    app.graph.clear()
    const loads = window.loads = LiteGraph.createNode('LoadImage'), saves = window.saves = LiteGraph.createNode('SaveImage')
    app.graph.add(loads); app.graph.add(saves)
    saves.pos = [500, 100]
    loads.connect(0, saves, 0)
    const name = loads.widgets.find(each => each.name === 'image')
    name.value = picture
    name.callback(picture)
    await app.queuePrompt(0)
  }, picture)
  await page.waitForFunction(() => window.saves.imgs?.length)
  await page.waitForFunction(() => window.loads.imgs?.length)
  await page.evaluate(() => {
    const { ComfyApp } = window.comfyAPI.app
    ComfyApp.copyToClipspace(window.saves)
    ComfyApp.pasteFromClipspace(window.loads)
  })
  const pasted = await judged(page)

  const paint = async (from, to) => {
    const before = await loaded(page)
    await page.evaluate(() => {
      window.app.canvas.selectNode(window.loads)
      return window.app.extensionManager.command.execute('Comfy.MaskEditor.OpenMaskEditor')
    })
    const save = page.locator('button:visible', { hasText: /^\s*Save\s*$/ }).first()
    await save.waitFor()
    await page.waitForTimeout(3000)
    await page.mouse.move(...from)
    await page.mouse.down()
    await page.mouse.move(...to, { steps: 8 })
    await page.mouse.up()
    await shot('editor-8-mask')
    await save.click()
    await save.waitFor({ state: 'hidden' })
    await page.waitForFunction(before => window.loads.widgets.find(each => each.name === 'image').value !== before, before, { timeout: 90_000 })
    return judged(page)
  }
  const painted = await paint([650, 420], [720, 460])
  const again = await paint([660, 500], [740, 520])
  await shot('editor-9-masked')
  return { pasted, painted, again, refused: asked.filter(([status]) => status >= 400) }
})
