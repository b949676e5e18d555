package diag

func cdefCodes() []Entry { return nil }

func checkCodes() []Entry { return nil }

func runtimeCodes() []Entry { return nil }
