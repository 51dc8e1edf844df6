// The status page: what runs with its progress and preview, what waits, what was made; on a screen and on a phone.
import { readFileSync } from 'node:fs'
import { browse } from './browser.mjs'
const [address, file] = process.argv.slice(4)
const prompt = JSON.parse(readFileSync(file))
prompt[3]._meta = { title: 'KSampler with_a_title_that_is_longer_than_a_phone_is_wide and goes on' }
const post = (steps, seed) => fetch(new URL('/prompt', address), {
  method: 'POST', body: JSON.stringify({ prompt: { ...prompt, 3: { ...prompt[3], inputs: { ...prompt[3].inputs, steps, seed } } } })
}).then(answer => answer.json())
const isDone = async id => Object.keys(await (await fetch(new URL(`/history/${id}`, address))).json()).length > 0
for (const size of [{ width: 1400, height: 900 }, { width: 360, height: 740, touch: true }]) {
  const name = size.touch ? 'phone' : 'screen'
  await browse(size, async (page, shot) => {
    const first = await post(4, size.width)
    while (!await isDone(first.prompt_id)) await new Promise(resolve => setTimeout(resolve, 200))
    const long = await post(600, size.width + 1), waiting = await post(4, size.width + 2)
    await page.goto(address)
    await page.waitForTimeout(3500)
    await shot(`status-${name}-running`)
    const text = await page.evaluate(() => document.body.innerText)
    const wide = await page.evaluate(() => document.documentElement.scrollWidth > window.innerWidth)
    const cut = await page.evaluate(() => [...document.querySelectorAll('main .row span')]
      .filter(part => part.scrollWidth > part.clientWidth).map(part => part.textContent))
    const pictures = await page.evaluate(() => [...document.images].filter(image => image.naturalWidth > 0).length)
    for (const { prompt_id: id } of [waiting, long]) {
      await fetch(new URL(`/jobs/${id}/cancel`, address), { method: 'POST' })
    }
    await page.waitForTimeout(2500)
    await shot(`status-${name}-idle`)
    return { name, text, wide, cut, pictures, ids: [first, long, waiting].map(each => each.prompt_id) }
  })
}
