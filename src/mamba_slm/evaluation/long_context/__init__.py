"""Long contexts: what every position costs, what is found again, and how a trained model is made for more."""
