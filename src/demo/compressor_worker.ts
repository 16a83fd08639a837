/** Entry of the worker that compresses what a visitor brings. */
import { serve } from '../rpc.ts'
import { Compressor } from './compressor.ts'

serve(new Compressor())
