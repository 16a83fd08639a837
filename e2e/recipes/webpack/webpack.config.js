import HtmlPlugin from 'html-webpack-plugin'

export default {
  entry: './src/main.js',
  output: { clean: true, publicPath: '/' },
  plugins: [new HtmlPlugin({ template: 'src/index.html' })],
}
