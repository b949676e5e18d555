#include "textflag.h"

// func endbr()
TEXT ·endbr(SB), NOSPLIT|NOFRAME, $0-0
	BYTE $0xf3; BYTE $0x0f; BYTE $0x1e; BYTE $0xfa // endbr64
	PUSHQ BP
	POPQ  BP
	RET
