"""Where the bytes are: objects by key, behind one interface that says where or gives bytes."""
