import { Writer } from './writer.jsx'

export default function Page() {
  return <Writer model="/models/demo" expert="/experts/bard.trit" />
}
