import { ExpertLoader } from 'tritswap'

const button = document.querySelector('button')
const output = document.querySelector('output')

const loader = await ExpertLoader.create({ model: '/models/demo', assets: '/assets' })
await loader.activate(await loader.load('/experts/bard.trit'))
button.disabled = false
button.onclick = async () => {
  for await (const { text } of loader.generate('The king', { maxNewTokens: 4 })) output.textContent += text
}
