"""Client SDK: masked updates and anonymized usage events go out, insights come back."""
