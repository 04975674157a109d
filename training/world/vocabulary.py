"""What the generated world is made of: 48 objects, 10 motions, and the words for them."""

from __future__ import annotations

# name -> emoji; the drawings come from Noto Emoji (see NOTICE.md), cut once into objects.png
OBJECTS: dict[str, str] = {
    "a dog": "🐕", "a cat": "🐈", "a horse": "🐎", "a cow": "🐄", "a pig": "🐖", "a rabbit": "🐇",
    "an elephant": "🐘", "a camel": "🐫", "a duck": "🦆", "a chicken": "🐓", "a penguin": "🐧",
    "an owl": "🦉", "a frog": "🐸", "a turtle": "🐢", "a fish": "🐠", "a whale": "🐳",
    "an octopus": "🐙", "a crab": "🦀", "a butterfly": "🦋", "a ladybug": "🐞", "a car": "🚗",
    "a bus": "🚌", "a fire engine": "🚒", "a tractor": "🚜", "a bicycle": "🚲", "a train": "🚂",
    "a plane": "✈", "a rocket": "🚀", "a sailboat": "⛵", "a helicopter": "🚁", "a house": "🏠",
    "a tree": "🌳", "a rose": "🌹", "a mushroom": "🍄", "an apple": "🍎", "a banana": "🍌",
    "a pineapple": "🍍", "a carrot": "🥕", "a burger": "🍔", "an ice cream": "🍦", "a key": "🔑",
    "an umbrella": "☂", "a guitar": "🎸", "a trumpet": "🎺", "a camera": "📷", "a book": "📕",
    "a robot": "🤖", "a ghost": "👻",
}  # fmt: skip
OBJECT_NAMES = tuple(OBJECTS)

# motion -> phrases; the first is the canonical one, the others occur in training too
MOTIONS: dict[str, tuple[str, ...]] = {
    "left": ("moving left", "going left", "moving to the left"),
    "right": ("moving right", "going right", "moving to the right"),
    "up": ("moving up", "going up", "moving upwards"),
    "down": ("moving down", "going down", "moving downwards"),
    "closer": ("coming closer", "moving closer", "getting closer"),
    "away": ("moving away", "going away", "getting further away"),
    "clockwise": ("turning clockwise", "rotating clockwise", "spinning clockwise"),
    "counter": ("turning counter-clockwise", "rotating counter-clockwise", "spinning counter-clockwise"),
    "shaking": ("shaking", "shaking quickly", "trembling"),
    "still": ("standing still", "not moving", "staying still"),
}
MOTION_NAMES = tuple(MOTIONS)
# words that the text tower learns from signs on stills only, as a CLIP of the web learns words that it
# never saw acted: no clip that mini is trained on shows them
WORDS: dict[str, tuple[str, ...]] = {
    "circling": ("circling", "going in circles"),
    "bouncing": ("bouncing", "bouncing along"),
    "zig-zagging": ("zig-zagging", "moving in a zig-zag"),
    "fading": ("fading", "fading out"),
    "once": ("jumping once", "jumping one time"),
    "twice": ("jumping twice", "jumping two times"),
    "three": ("jumping three times", "jumping thrice"),
    "jump-flash": ("jumping then flashing", "jumping before flashing"),
    "flash-jump": ("flashing then jumping", "flashing before jumping"),
    "blinking": ("blinking", "blinking briefly"),
}
WORD_NAMES = tuple(WORDS)
REVERSE = {
    "left": "right", "right": "left", "up": "down", "down": "up", "closer": "away",
    "away": "closer", "clockwise": "counter", "counter": "clockwise",
    "shaking": "shaking", "still": "still",
}  # fmt: skip
MIRROR = {"left": "right", "right": "left", "clockwise": "counter", "counter": "clockwise"}
PAIRS = (("left", "right"), ("up", "down"), ("closer", "away"), ("clockwise", "counter"))
GROUPS = (*PAIRS, ("shaking", "still"))


def caption(obj: str, motion: str) -> str:
    """Return the canonical caption of an object-motion pair: ``"a dog moving left"``."""
    return f"{obj} {MOTIONS[motion][0]}"


def is_held_out(obj: str, motion: str) -> bool:
    """Say whether an object-motion pair is never seen in training (one motion group an object)."""
    return motion in GROUPS[OBJECT_NAMES.index(obj) % len(GROUPS)]


def seen_pairs() -> list[tuple[str, str]]:
    """Return the object-motion pairs of training: 384 of 480."""
    return [(o, m) for o in OBJECT_NAMES for m in MOTION_NAMES if not is_held_out(o, m)]


def held_out_pairs() -> list[tuple[str, str]]:
    """Return the object-motion pairs of the tests only: 96 of 480."""
    return [(o, m) for o in OBJECT_NAMES for m in MOTION_NAMES if is_held_out(o, m)]
