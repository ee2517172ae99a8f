FROM base
LABEL a=1 b="two words"
LABEL old style label
LABEL "com.example/$X"='$literal' c=$HOME
MAINTAINER Some One <one@example.test>
