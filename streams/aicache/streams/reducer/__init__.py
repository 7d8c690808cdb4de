"""The reducer: adds the ciphertexts that a manifest names and opens the sum."""
