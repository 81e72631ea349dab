"""Small tools without business meaning, one noun a module. They import nothing else of Piste."""
