from fedsim.moved import names_of

globals()["__getattr__"] = names_of(__name__)  # set so that type checkers do not take any name for granted
