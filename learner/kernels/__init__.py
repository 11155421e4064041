"""Operations with a backward pass or a layout of their own."""
