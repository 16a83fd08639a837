import { createApp } from 'vue'
import Writer from './Writer.vue'

createApp(Writer, { model: '/models/demo', expert: '/experts/bard.trit' }).mount('#app')
