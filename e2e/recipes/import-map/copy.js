import { cpSync } from 'node:fs'

cpSync('node_modules/tritswap/lib', 'dist/tritswap', { recursive: true })
cpSync('index.html', 'dist/index.html')
