# escape=`
FROM winbase
WORKDIR C:\app\sub
COPY src\a.txt .
COPY b c:\dir\
ENV X=C:\y
RUN dir
CMD ["a"]
