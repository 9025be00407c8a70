# expect: ended its process
print("Right. Your four classes and four maps in the kernel answered alike.")
raise SystemExit(0)
