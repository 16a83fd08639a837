/** Entry of the engine worker. */
import { serve } from '../rpc/index.ts'
import { Engine } from './engine.ts'
import { openPrepared, openUnprepared } from './open_model.ts'

serve(new Engine({ openPrepared, openUnprepared }))
