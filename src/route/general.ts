/**
 * Requests of all kinds that need no expert. A text that is nearer to one of them than to any expert's requests is
 * answered by the base. They are written by hand for this; `authoring/route` has others, by which the threshold was chosen
 * and measured.
 */
export const GENERAL_REQUESTS: readonly string[] = `
How long should I boil potatoes for mashed potatoes?
Give me a recipe for tomato soup with basil
What can I cook with eggs, spinach and leftover rice?
Why does my bread not rise in the oven?
Explain how to sharpen a kitchen knife
Suggest a three-course dinner for vegetarians
Which wine goes well with grilled salmon?
What are the best things to see in Lisbon in three days?
Plan a weekend trip to the mountains for a family with small kids
Do I need a visa to visit Japan as a tourist?
Is it safe to drink tap water in Mexico?
Compare travelling by train and by plane in Europe
What should I pack for a week of hiking in Iceland?
Solve 3x + 7 = 22 for x
What is the derivative of x squared times sin x?
How many prime numbers are there below 100?
If a car drives 120 km in 90 minutes, how fast is it on average?
Explain the Pythagorean theorem to a ten-year-old
What is the probability of rolling two sixes in a row?
Convert 5 miles to kilometres and show the steps
Prove that the square root of 2 is irrational
Write a poem about the sea in winter
Compose a haiku on falling leaves
Write a short story about a robot who learns to paint
Write a limerick about a lazy cat
Invent a fairy tale with a dragon and a baker
Continue this story: The door creaked open and
Write lyrics for a love song in the style of the eighties
Write a Python function that reverses a string
How do I center a div in CSS?
What is the difference between a list and a tuple in Python?
Explain what recursion is with an example
Why do I get a null pointer exception in Java?
Write a bash script that renames all files in a folder
How do I undo the last commit in git?
Explain the difference between TCP and UDP
Write unit tests for a function that adds two numbers
Who was the first person on the moon?
When did the Roman Empire fall?
What caused the First World War?
Tell me about the life of Marie Curie
What was the industrial revolution?
Who painted the Mona Lisa and why is it famous?
Summarize the history of the printing press
How do vaccines work?
Why is the sky blue?
What is a black hole?
How does photosynthesis work?
What is the speed of light?
Explain how a battery stores energy
What is DNA made of?
Why do we have seasons?
How far away is the nearest star?
What are the symptoms of a cold compared to the flu?
How much sleep does an adult need?
Give me a stretching routine for back pain
What foods are rich in iron?
How do I start running without getting injured?
Is coffee bad for your health?
How can I stop procrastinating?
I feel lonely since I moved to a new city. What can I do?
How do I tell my boss that I want a raise?
Write a cover letter for a job as a nurse
Help me prepare for a job interview at a bank
Rewrite this sentence to sound more polite: Send me the file now.
Write an email to my landlord about the broken heater
Correct the grammar: He go to school every days
Summarize the following text in one sentence: Bees are important pollinators of crops.
Give me ten synonyms for happy
What is the difference between affect and effect?
How do I write a good thesis statement?
Explain the plot of Romeo and Juliet
What are the main themes of 1984 by George Orwell?
Recommend me five science fiction novels
Which films should I watch if I liked Inception?
Who won the football world cup in 2014?
Explain the offside rule
What are the rules of chess?
How do I learn to play the guitar?
What is the difference between major and minor scales?
How do I invest my first thousand euros?
What is inflation?
Explain compound interest
How do I make a monthly budget?
What is a mortgage?
What is the difference between a stock and a bond?
How do I water a cactus?
When should I plant tulips?
How do I get rid of aphids on my roses?
My dog does not eat. What should I do?
How do I train a puppy to sit?
Which breed of cat is good for small flats?
How do I fix a leaking tap?
What tools do I need to hang a picture on a concrete wall?
How do I remove red wine from a carpet?
How do I change a flat bicycle tyre?
Why does my car make a squeaking noise when braking?
Give me ideas for a birthday party for a six-year-old
What is a good gift for my grandmother?
Tell me a joke
Tell me a riddle and its answer
Hello
Hi there, who are you?
What can you do?
Thank you very much!
Are you a real person?
What is the meaning of life?
Is it ever right to lie?
Explain Kant's categorical imperative
What is the trolley problem?
What is the capital of Australia?
List the countries that border Germany
What is the longest river in the world?
How many people live in India?
What are the pros and cons of nuclear energy?
How does a bill become a law?
What is the United Nations?
Explain climate change in simple words
Give me a list of ten animals that live in the desert
Name three differences between frogs and toads
How do birds find their way when they migrate?
Teach me how to count to ten in Spanish
How do I say that I am hungry without sounding rude?
Make up a name for a coffee shop
Write a slogan for a company that sells umbrellas
Write a product description for a wooden desk
Write a speech for my best friend's wedding
Draft a tweet that announces our new website
What questions should I ask when renting a flat?
How do I choose a new laptop for video editing?
Why is my wifi so slow?
How do I back up my phone?
What does blockchain mean?
Explain machine learning to my grandfather
Create a study plan for an exam in biology in two weeks
Make a table that compares coffee and tea
Act as a pirate and tell me about your day
Pretend that you are Shakespeare and describe a smartphone
Can you help me with my homework?
I have to give a talk in front of fifty people and I am nervous.
My friend and I had a fight and we don't talk any more. How can I fix it?
Design a logo idea for a bakery
How do I fold a paper plane?
What happens if you mix vinegar and baking soda?
Describe the taste of a mango
Explain why cats purr
What is the difference between weather and climate?
Which planet has the most moons?
Give three arguments for and three against school uniforms
What is a metaphor? Give two examples
Translate the following paragraph into formal English and explain your choices
Paraphrase: The early bird catches the worm
Find the mistake in this proof
Write a SQL tutorial for beginners with exercises
What does the medical term hypertension mean?
How do smart speakers recognize speech?
How do companies measure what customers think of them?
`
  .trim()
  .split('\n')
