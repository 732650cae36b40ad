"""Texts on which a backbone is proven, prepared and compared."""

# Lengths from a word to a paragraph, several scripts, so that rows of every kind meet in a batch.
SAMPLE_TEXTS = (
    "Hi",
    "Where is my order?",
    "I would like to change the delivery address of the parcel that you sent yesterday.",
    "The card was charged twice; please refund one of the two payments, thank you.",
    "¿Dónde está la estación?",
    "配達はいつ届きますか",
    "ok",
    "Can I get a prescription refill without seeing the doctor, or do I need an appointment first?",
    "numbers 1 2 3 4 5 6 7 8 9 10 and signs !?;: () [] {} @ # % & * + = / \\ | ~",
    " ".join(["A long message that goes on and on about the same small thing."] * 12),
    "",
    " ".join(f"word{number}" for number in range(400)),
)
