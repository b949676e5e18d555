package shell

func workCommands() []command { return nil }

type lessonRun struct{}

func (*lessonRun) after(*Shell, string) {}

func lessons() []string { return nil }

type recording struct{ r interface{ Close() error } }
