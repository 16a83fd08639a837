import { expect, test } from 'vitest'
import { questionsOf } from '../../src/demo/questions.ts'

test('a line is a question; of JSON lines of chats it is what the user says first', () => {
  expect(questionsOf(' How many?\n\nWho?\n')).toEqual(['How many?', 'Who?'])
  const chat = {
    messages: [
      { role: 'system', content: 'Be short.' },
      { role: 'user', content: 'Why?' },
    ],
  }
  expect(questionsOf(`${JSON.stringify(chat)}\n{"prompt":"When?"}\n{"messages":[]}\n{not json`)).toEqual([
    'Why?',
    'When?',
    '{not json',
  ])
})

test('a long list is cut: each question is answered twice', () => {
  expect(questionsOf('a\nb\nc\nd\ne\nf')).toHaveLength(4)
})
