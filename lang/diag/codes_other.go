package diag

func checkCodes() []Entry { return nil }

func runtimeCodes() []Entry { return nil }
