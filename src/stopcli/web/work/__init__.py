"""What the page does, whoever asks: a browser, a program or an assistant."""
