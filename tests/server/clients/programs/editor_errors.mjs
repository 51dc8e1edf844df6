// What is refused, and what fails in the run, lands on its node.
import { all, browse, openEditor, run, setWidgets, told } from './browser.mjs'
const address = process.argv[4]
await browse({}, async (page, shot) => {
  await openEditor(page, address)
  await setWidgets(page, { KSampler: { cfg: 500, steps: 2 }, EmptyLatentImage: { batch_size: 1 } })
  await run(page)
  await page.waitForFunction(() => window.app.lastNodeErrors && Object.keys(window.app.lastNodeErrors).length > 0)
  await page.waitForTimeout(1000)
  await shot('editor-4-refused')
  const refused = await page.evaluate(() => Object.entries(window.app.lastNodeErrors).map(([key, { errors, class_type: kind }]) =>
    [key, kind, errors.map(({ type, extra_info: extra }) => [type, extra.input_name])]))
  const dialog = page.getByRole('button', { name: /close|dismiss/i })
  for (const button of await dialog.all()) await button.click({ timeout: 500 }).catch(() => {})

  await page.evaluate(() => {
    const { graph } = window.app
    for (const node of graph._nodes) if (node.type === 'SaveImage') node.mode = 2
    const fails = window.LiteGraph.createNode('Misbehave'), shows = window.LiteGraph.createNode('PreviewAny')
    graph.add(fails); graph.add(shows)
    fails.pos = [0, 620]; shows.pos = [340, 620]
    fails.connect(0, shows, 0)
  })
  await run(page)
  await told(page, 'execution_error')
  await page.waitForFunction(() => window.app.lastExecutionError)
  await page.waitForTimeout(2500)
  await shot('editor-5-failed')
  const [failed] = await all(page, 'execution_error')
  const on = await page.evaluate(() => window.app.graph.getNodeById(window.app.lastExecutionError.node_id).type)
  return { refused, on, failed: [failed.node_type, failed.exception_type, failed.exception_message] }
})
