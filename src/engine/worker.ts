/** Entry of the engine worker. */
import { serve } from '../rpc/index.ts'
import { Engine } from './engine.ts'

export type EngineApi = Engine

serve(new Engine())
