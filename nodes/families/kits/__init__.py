"""Networks that several families use: their configs from shapes, their tables, and how they are built and asked."""
