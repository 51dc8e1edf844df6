// A node is copied and pasted with its links, and the panel of models lists what the server has.
import { browse, openEditor } from './browser.mjs'
const address = process.argv[4]
await browse({}, async (page, shot) => {
  const asked = []
  page.on('response', answer => { if (/experiment\/models|view_metadata/.test(answer.url())) asked.push([answer.status(), new URL(answer.url()).pathname]) })
  await openEditor(page, address)
  const before = await page.evaluate(() => {
    const { canvas, graph } = window.app
    const sampler = graph._nodes.find(node => node.type === 'KSampler')
    canvas.selectNode(sampler)
    return graph._nodes.length
  })
  await page.locator('#graph-canvas').focus()
  await page.keyboard.press('Control+c')
  await page.keyboard.press('Control+v')
  await page.waitForFunction(before => window.app.graph._nodes.length > before, before)
  const samplers = await page.evaluate(() => window.app.graph._nodes.filter(node => node.type === 'KSampler')
    .map(node => Object.fromEntries(node.widgets.filter(each => each.name !== 'seed').map(each => [each.name, each.value]))))
  await page.keyboard.press('m')
  await page.getByText('checkpoints').first().waitFor()
  await page.getByText('checkpoints').first().click()
  await page.getByText('graphflow-tiny').first().waitFor()
  await shot('editor-9-models')
  return { samplers, asked }
})
