#include <stdio.h>

void greet(const char *language)
{
	printf("Hello from %s\n", language);
}
