/** Entry of the worker that compresses what a visitor brings. */
import { serve } from '../rpc/index.ts'
import { Compressor } from './compressor.ts'

serve(new Compressor())
