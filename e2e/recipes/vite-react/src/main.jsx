import { StrictMode } from 'react'
import { createRoot } from 'react-dom/client'
import { Writer } from './writer.jsx'

createRoot(document.querySelector('#app')).render(
  <StrictMode>
    <Writer model="/models/demo" expert="/experts/bard.trit" />
  </StrictMode>,
)
