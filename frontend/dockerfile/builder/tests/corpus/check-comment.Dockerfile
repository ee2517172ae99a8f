# check=skip=JSONArgsRecommended
FROM base
CMD x
# check=skip=WorkdirRelativePath
WORKDIR rel
LABEL a b
