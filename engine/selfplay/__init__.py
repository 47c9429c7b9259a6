"""The first phase: generators write replay elements about the news, into pools."""
