"""execd: takes each job of a platform through its life, from the insert to the owner's notice."""
