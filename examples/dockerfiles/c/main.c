void greet(const char *language);

int main(void)
{
	greet("C");
	return 0;
}
