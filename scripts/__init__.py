"""Commands. Each executable file here is thin; what it does lives in a module beside it."""
