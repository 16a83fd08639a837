export { blend as pair } from './blend.ts'
